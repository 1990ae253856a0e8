"""What commands do, as functions of their options."""
