"""The vmm's second door for traps: a guest of another's making, behind a vfio-user socket."""
