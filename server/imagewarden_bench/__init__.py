"""`imagewarden bench`: how fast the service is on this machine, beside its limits and its peers, in one run."""

# What the server sets before numpy is there holds for what is measured of it in this process, too.
import imagewarden_server as imagewarden_server
