"""Fine-tuning: examples in, an adapter out that chat and transcription load."""
