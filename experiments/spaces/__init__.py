"""What searches of the spaces find on the zoo: layer-wise fusion, depth-wise integration, fused stacks."""
