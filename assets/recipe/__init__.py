"""How `assets/demo` was made. Not in the wheel; needs torch and transformers."""
