"""From a text to an embedding, and from two embeddings to evidence."""
import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
