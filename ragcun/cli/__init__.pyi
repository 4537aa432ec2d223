from .commands import main
from .demonstration import DemoConfig, run_demo

__all__ = [
    "DemoConfig", "main", "run_demo",
]
