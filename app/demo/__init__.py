"""`recount demo`: servers, a stream, a kill, and a verdict over every number, on this machine."""

from app.demo.run import run_demo

__all__ = ["run_demo"]
