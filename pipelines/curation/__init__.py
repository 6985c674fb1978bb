"""Curation: from media files to the training mixture, one stage a module."""
