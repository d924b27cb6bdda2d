"""Every operation of CloudWatch that is here."""

from __future__ import annotations

from imdsctl.local.call import Operation, Operations
from imdsctl.local.cloudwatch.data import get_metric_data
from imdsctl.local.cloudwatch.listing import get_metric_statistics, list_metrics
from imdsctl.local.cloudwatch.put import put_metric_data

OPERATIONS: Operations = {
    "PutMetricData": Operation(put_metric_data, writes=True),
    "GetMetricData": Operation(get_metric_data),
    "GetMetricStatistics": Operation(get_metric_statistics),
    "ListMetrics": Operation(list_metrics),
}
