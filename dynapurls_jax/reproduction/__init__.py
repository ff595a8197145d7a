"""The paper's tables, made again: what is in them, the work behind each figure, the pages."""
