"""Cases that need root (file systems, namespaces, cgroups of their own): collected only as root."""
