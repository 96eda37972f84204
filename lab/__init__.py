"""Real servers on this machine, for the demo, the tests and the benchmarks.

```python
with Lab() as lab:
    kafka = lab.kafka(brokers=3)
    hdfs = lab.hdfs()
    kafka.brokers[1].kill()
```
"""

from lab.errors import JarMismatchError, LabError, MissingToolError, PortTakenError, ServerFailedError
from lab.hdfs import Hdfs
from lab.kafka import Kafka
from lab.lab import Lab
from lab.process import Server

__all__ = [
    "Hdfs",
    "JarMismatchError",
    "Kafka",
    "Lab",
    "LabError",
    "MissingToolError",
    "PortTakenError",
    "Server",
    "ServerFailedError",
]
