"""From a tested model to pictures: what there is to draw, and what can be drawn."""
