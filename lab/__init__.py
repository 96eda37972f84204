"""Real servers on this machine, for the demo, the tests and the benchmarks.

```python
with Lab() as lab:
    kafka = lab.kafka(brokers=3)
    hdfs = lab.hdfs()
    kafka.brokers[1].kill()
```
"""

from lab.errors import JarMismatchError, LabError, MissingToolError, PortTakenError, ServerFailedError
from lab.hbase import Hbase
from lab.hdfs import Hdfs
from lab.kafka import Kafka
from lab.lab import Lab
from lab.process import Server
from lab.redis import Redis

__all__ = [
    "Hbase",
    "Hdfs",
    "JarMismatchError",
    "Kafka",
    "Lab",
    "LabError",
    "MissingToolError",
    "PortTakenError",
    "Redis",
    "Server",
    "ServerFailedError",
]
