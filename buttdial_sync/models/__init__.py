"""Result types, one module per subject, and the one converter that fills them."""
