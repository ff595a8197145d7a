"""Descriptions of new actions, asked of a language model."""
