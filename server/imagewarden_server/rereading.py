"""What changes while the server runs, once it is told to read its settings again (SIGHUP); the rest needs a restart."""

from __future__ import annotations

from collections.abc import Callable

from imagewarden_server import logs
from imagewarden_server.listening import CertificateError, Listener, read_certificate
from imagewarden_server.matching.check import Checker
from imagewarden_server.matching.types import Action
from imagewarden_server.settings import Settings, SettingsError

_CHANGEABLE = frozenset({"on_undecided", "log_format", "log_level"})
_CERTIFICATE = ("tls_certificate", "tls_key", "tls_client_ca")


class Rereading:
    """The settings that are in force, and how others come to be.

    Args:
        settings: in force now.
        listener: shows the certificate.
        checker: says what the caller of an undecided check should do.
    """

    def __init__(self, settings: Settings, listener: Listener, checker: Checker) -> None:
        self._settings = settings
        self._listener = listener
        self._checker = checker

    def reread(self, load: Callable[[], Settings]) -> None:
        """Take what can change of settings read again; where they or their files can't be used nothing changes."""
        before, log = self._settings, logs.logger()
        try:
            new = load()
            certificate = read_certificate(new)
        except (SettingsError, CertificateError) as error:
            log.warning("settings not reread", error=str(error), hint="nothing was changed; correct it, and try again")
            return
        changed = [name for name in Settings.model_fields if getattr(new, name) != getattr(before, name)]
        changeable = _CHANGEABLE | self._certificate_changeable(new)
        taken = {name: getattr(new, name) for name in changed if name in changeable}
        self._settings = before.model_copy(update=taken)
        if changeable.issuperset(_CERTIFICATE):
            self._listener.use(certificate)
        self._checker.on_undecided = Action[new.on_undecided.name]
        logs.configure(new.log_format, new.log_level)
        logs.logger().info("settings reread", changed=taken, certificate=certificate is not None)
        if refused := sorted(set(changed) - changeable):
            logs.logger().warning("settings that need a restart", settings=refused, hint="they are as before")

    def _certificate_changeable(self, new: Settings) -> frozenset[str]:
        """The certificate's files, where there are those that there were: TLS is neither begun nor ended under way."""
        same = all((getattr(new, name) is None) == (getattr(self._settings, name) is None) for name in _CERTIFICATE)
        return frozenset(_CERTIFICATE) if same else frozenset()
