"""What makes a folder trustworthy: whole files, locks, sealed records, fingerprints; not what they hold."""
