"""Fine-tunes the backbone with torch, alone or in many processes."""
