"""Lists tags and values of a TensorBoard event file with TensorBoard itself; prints JSON.

Needs: pip install tensorboard==2.21.0
"""

import json
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.pr_curve import metadata
from tensorboard.util import tensor_util

events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "histograms": 0, "tensors": 0})
events.Reload()
tags = events.Tags()
curves = {}
for tag in events.PluginTagToContent(metadata.PLUGIN_NAME):
    content = events.PluginTagToContent(metadata.PLUGIN_NAME)[tag]
    thresholds = metadata.parse_plugin_metadata(content).num_thresholds
    curves[tag] = {
        "thresholds": thresholds,
        "values": [[e.step, tensor_util.make_ndarray(e.tensor_proto).tolist()] for e in events.Tensors(tag)],
    }
print(json.dumps({
    "scalars": {tag: [[e.step, e.value] for e in events.Scalars(tag)] for tag in tags["scalars"]},
    "histograms": {
        tag: [
            [e.step, e.histogram_value.num, e.histogram_value.min, e.histogram_value.max, sum(e.histogram_value.bucket)]
            for e in events.Histograms(tag)
        ]
        for tag in tags["histograms"]
    },
    "pr_curves": curves,
}))
