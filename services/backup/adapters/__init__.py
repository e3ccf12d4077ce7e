"""What the backup service does not own: the backup engine, restored servers, namespaces, the file system."""
