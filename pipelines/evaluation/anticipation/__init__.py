"""Action anticipation on EPIC-KITCHENS-100: what will be done, before it is."""
