"""Configuration files in the manner of Hadoop, which HBase shares."""

from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import escape

LOG4J_1 = """\
log4j.rootLogger=INFO,console
log4j.appender.console=org.apache.log4j.ConsoleAppender
log4j.appender.console.layout=org.apache.log4j.PatternLayout
log4j.appender.console.layout.ConversionPattern=%d %p %c{1} %m%n
"""


def write_site(path: Path, settings: Mapping[str, str]) -> None:
    """Write a `*-site.xml`."""
    entries = "".join(
        f"  <property><name>{escape(name)}</name><value>{escape(value)}</value></property>\n"
        for name, value in settings.items()
    )
    path.write_text(f'<?xml version="1.0"?>\n<configuration>\n{entries}</configuration>\n')
