"""How often a picture is doubted that shows what it is said to show, and one that does not."""
