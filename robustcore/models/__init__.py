"""Encoders, and where their weights come from."""

from robustcore.models.clip import Clip, Encoder, LoadedClip

Model = Clip

__all__ = ["Clip", "Encoder", "LoadedClip", "Model"]
