"""Attribution: who a frame was waiting for, which stage is the cause, what a change would give.

* `blame`: for each hand-off, which stage of the station behind it its frames waited for
* `waited_for`: which intervals of which earlier frames, for a waterfall
* `causes`: own and blamed time of each stage, and the one that is behind it all
* `what_if`, `sensitivity`: the recording replayed with something changed
* `utilization`: how busy stations are, and whether they keep up
* `suggest_stations`: what a pipeline might declare

A station takes the frame first that was there first; `places` says which stages are whose,
`visits` who was there when, `delays` what of the time in front was transport, `busy` and
`blocking` who held whom up; `picture` holds all of it.
"""

from latprof.queueing.blame import Waited, blame, waited_for
from latprof.queueing.causes import Causes, causes
from latprof.queueing.saturation import Utilization, utilization
from latprof.queueing.suggestions import Suggestion, suggest_stations
from latprof.queueing.what_if import WhatIf, sensitivity, what_if

__all__ = [
    "Causes",
    "Suggestion",
    "Utilization",
    "Waited",
    "WhatIf",
    "blame",
    "causes",
    "sensitivity",
    "suggest_stations",
    "utilization",
    "waited_for",
    "what_if",
]
