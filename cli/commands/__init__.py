"""The commands of `star`, one file each."""
