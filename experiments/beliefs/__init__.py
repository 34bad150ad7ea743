"""What a search believes of models, against what comes out."""
