"""How each fault is done."""

from __future__ import annotations

from tests.soak import server_faults, state_faults, worker_faults
from tests.soak.ground import Play
from tests.soak.schedule import Fault

PLAYS: dict[Fault, Play] = {
    Fault.KILL: worker_faults.kill,
    Fault.KILL_AT_POINT: worker_faults.at_point,
    Fault.PAUSE: worker_faults.pause,
    Fault.PAUSE_AT_POINT: worker_faults.at_point,
    Fault.RESTART: worker_faults.restart,
    Fault.JOIN: worker_faults.join,
    Fault.LEAVE: worker_faults.leave,
    Fault.FENCE: worker_faults.fence,
    Fault.STATE_DELETED: state_faults.state_deleted,
    Fault.STATE_AGED: state_faults.state_aged,
    Fault.STATE_FLIPPED: state_faults.state_flipped,
    Fault.OFFSETS_RESET: state_faults.offsets_reset,
    Fault.KAFKA_PAUSED: server_faults.kafka_paused,
    Fault.KAFKA_RESTARTED: server_faults.kafka_restarted,
    Fault.KAFKA_KILLED: server_faults.kafka_killed,
    Fault.THRIFT_PAUSED: server_faults.thrift_paused,
    Fault.THRIFT_KILLED: server_faults.thrift_killed,
    Fault.NAMENODE_PAUSED: server_faults.namenode_paused,
    Fault.NAMENODE_KILLED: server_faults.namenode_killed,
    Fault.DATANODE_PAUSED: server_faults.datanode_paused,
    Fault.DATANODE_KILLED: server_faults.datanode_killed,
    Fault.HBASE_KILLED: server_faults.hbase_killed,
}
