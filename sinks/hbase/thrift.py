"""The client's Thrift types. Their module exists once happybase has been imported."""

import happybase
from Hbase_thrift import AlreadyExists, BatchMutation, Hbase, IllegalArgument, Mutation
from Hbase_thrift import IOError as HBaseIOError

__all__ = ["AlreadyExists", "BatchMutation", "HBaseIOError", "Hbase", "IllegalArgument", "Mutation", "happybase"]
