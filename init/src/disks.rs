//! STATE and EPHEMERAL: found, made at first boot, checked, grown.
