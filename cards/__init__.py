"""Templates of the model card, the data-set card, the report page and the demo."""
