"""Audio files in, HLS out."""
