"""The texts of the protocol before standing instructions: one watch, judged at every picture.

They are kept for comparison (`one_watch_model.py`) and are the texts of the prompt format
"prompted" as it was then.
"""

SYSTEM = (
    "You watch a live video, one frame at a time. Each frame is labelled with its time as <Xs-Ys>."
    " You may be told what to watch for.\nBegin every reply with exactly one word: Silence while"
    " there is nothing to report, Standby while what you watch for is still under way, Response"
    " followed by one short sentence once it has happened, or to answer a question from what was"
    " seen."
)
WATCH = "From this frame on, watch for the following and report it each time it happens: {query}\n"
JUDGE = (
    "Has what you watch for happened in this frame? Reply Silence, Standby, or Response and one"
    " short sentence.\n"
)
TIME = "<{start}s-{end}s>\n"
