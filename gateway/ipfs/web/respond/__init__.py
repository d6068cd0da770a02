"""The forms of content: one file each, and the table of them."""
