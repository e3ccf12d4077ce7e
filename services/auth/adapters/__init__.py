"""What auth does not own: the mail transport, the hashing library's threads, the token format of holdfast.usertoken."""
