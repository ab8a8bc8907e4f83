"""Both sides of every state, for the benchmark of the memory's answers (`memory_questions.py`).

For each state in the simulated rooms the true and the false side are asked, plainly and negated.
`STORIES` are short stories about other objects, verbs and wordings, which were written before the
code that answers them; they are no part of the simulated world.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass

import numpy as np
from event_step import event_step
from numpy.typing import NDArray

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.answers.question_kind import Question
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.search.query import Place, RecallQuery
from stream_vlm.types import NANOSECONDS, Frame, Pose

HERE = Pose("map", 0, 0, 0)
FORMS = (
    ("is the {thing} {yes}?", True),
    ("is the {thing} still {yes}?", True),
    ("isn't the {thing} {yes}?", True),
    ("is the {thing} {no}?", False),
    ("is the {thing} not {yes}?", False),
    ("is the {thing} no longer {yes}?", False),
)
"""Questions, and whether yes means that the first side holds."""


@dataclass(frozen=True)
class StateFact:
    """What holds at the end in one room.

    Attributes:
        thing: such as "door" or "red ball".
        yes: word for the one side, "open".
        no: word for the other side, "closed".
        holds: whether the one side holds.
        place: where it is seen from.
    """

    thing: str
    yes: str
    no: str
    holds: bool
    place: Place


def ask_both_sides(memory: Memory, facts: list[StateFact]) -> tuple[int, list[str]]:
    """Ask every form about every fact.

    Returns:
        How many questions there were, and those with a wrong answer.
    """
    number, wrong = 0, []
    for fact in facts:
        for form, is_first_side in FORMS:
            text = form.format(thing=fact.thing, yes=fact.yes, no=fact.no)
            answer = memory.answer(Question(RecallQuery(text, place=fact.place)))
            number += 1
            if not answer.known or answer.value != float(fact.holds == is_first_side):
                wrong.append(f"{text} ({fact.place.x:g}) -> {answer.text}")
    return number, wrong


def ask_stories(image: NDArray[np.uint8]) -> tuple[int, list[str]]:
    """Store each story in a memory of its own and ask its question.

    Args:
        image: of each frame, uint8 RGB, (H, W, 3).

    Returns:
        How many questions there were, and those with a wrong answer.
    """
    wrong = []
    for story, text, expected in STORIES:
        with (
            tempfile.TemporaryDirectory() as folder,
            Memory.open(MemorySettings(path=f"{folder}/memory.db")) as memory,
        ):
            memory.begin_session("story", "simulated", "a new story", NANOSECONDS)
            for number, said in enumerate(story.split("; "), 2):
                stamp_ns = 10 * number * NANOSECONDS
                frame = Frame("front", stamp_ns, "front_optical", image, HERE)
                memory.write(event_step("story", number, frame, said, stamp_ns))
            answer = memory.answer(Question(RecallQuery(text)))
        said = answer.text.split(":")[0] if answer.known else "not known"
        if said != expected:
            wrong.append(f"{story} | {text} | {expected} -> {answer.text}")
    return len(STORIES), wrong


STORIES = (
    ("fridge opens; fridge closes", "is the fridge open?", "no"),
    ("fridge opens; fridge closes", "is the fridge closed?", "yes"),
    ("fridge opens; fridge closes", "is the fridge shut?", "yes"),
    ("fridge closes; fridge opens", "isn't the fridge open?", "yes"),
    ("fridge closes; fridge opens", "is the fridge not open?", "no"),
    ("fridge closes; fridge opens", "is the fridge no longer open?", "no"),
    ("a man opens the valve; a man shuts the valve", "is the valve still open?", "no"),
    ("a man opens the valve; a man shuts the valve", "is the valve closed?", "yes"),
    ("the curtain is drawn; the curtain is opened", "is the curtain open?", "yes"),
    ("the curtain is closed", "is the curtain open?", "no"),
    ("engine starts; engine stops", "is the engine running?", "no"),
    ("engine starts; engine stops", "is the engine stopped?", "yes"),
    ("engine starts; engine stops", "is the engine off?", "yes"),
    ("engine starts", "is the engine still running?", "yes"),
    ("engine starts", "has the engine stopped?", "no"),
    ("machine stops; machine starts", "is the machine running?", "yes"),
    ("machine stops; machine starts", "is the machine still?", "no"),
    ("someone fills the cup; someone empties the cup", "is the cup empty?", "yes"),
    ("someone fills the cup; someone empties the cup", "is the cup full?", "no"),
    ("someone empties the cup; the cup is filled", "is the cup empty?", "no"),
    ("the guard locks the gate; the guard unlocks the gate", "is the gate locked?", "no"),
    ("the guard locks the gate; the guard unlocks the gate", "is the gate unlocked?", "yes"),
    ("the guard locks the gate; the guard unlocks the gate", "is the gate open?", "not known"),
    ("radio is switched on; radio is switched off", "is the radio off?", "yes"),
    ("radio is switched on; radio is switched off", "is the radio on?", "no"),
    ("radio is switched off; radio is switched on", "is the radio off?", "no"),
    ("candle goes out", "is the candle lit?", "no"),
    ("candle is lit", "is the candle burning?", "yes"),
    ("candle is lit", "is the candle out?", "no"),
    ("cat comes in; cat runs away", "is the cat gone?", "yes"),
    ("cat comes in; cat runs away", "is the cat still here?", "no"),
    ("cat runs away; cat returns", "is the cat gone?", "no"),
    ("cat runs away; cat returns", "is the cat there?", "yes"),
    ("the flag is raised; the flag is lowered", "is the flag up?", "no"),
    ("the flag is raised; the flag is lowered", "is the flag lowered?", "yes"),
    ("the flag is lowered; the flag is raised", "is the flag down?", "no"),
    (
        "someone plugs in the charger; someone unplugs the charger",
        "is the charger plugged in?",
        "no",
    ),
    (
        "someone plugs in the charger; someone unplugs the charger",
        "is the charger unplugged?",
        "yes",
    ),
    ("the box is covered; someone uncovers the box", "is the box covered?", "no"),
    ("the box is covered; someone uncovers the box", "is the box uncovered?", "yes"),
    ("the hose is connected; the hose is disconnected", "is the hose connected?", "no"),
    ("the hose is connected; the hose is disconnected", "is the hose disconnected?", "yes"),
    ("the soup is served", "is the soup hot?", "not known"),
    ("the van is parked", "is the van dirty?", "not known"),
    ("window opens; window does not close", "is the window open?", "yes"),
    ("window opens; nobody closes the window", "is the window closed?", "no"),
    ("the tap is not open", "is the tap open?", "no"),
    ("the tap is no longer open", "is the tap closed?", "yes"),
    ("lid closes; lid opens", "is the lid open or closed?", "open"),
    ("printer turns on; printer turns off", "is the printer on or off?", "off"),
    ("the door opens and closes again", "is the door closed?", "yes"),
    ("hand takes the key and puts it down", "is the key gone?", "no"),
    ("the blind is down", "is the blind up?", "no"),
    ("the dog wakes up; the dog falls asleep", "is the dog awake?", "no"),
    ("the dog wakes up; the dog falls asleep", "is the dog asleep?", "yes"),
    ("a woman sits down; the woman stands up", "is the woman sitting?", "no"),
    ("a woman sits down; the woman stands up", "is the woman standing?", "yes"),
    ("shutter opens; shutter closes", "is the shutter open?", "no"),
    ("shutter opens; shutter closes", "are the shutters closed?", "yes"),
    ("drawer is pulled open; someone shuts the drawer", "is the drawer still open?", "no"),
    ("drawer is pulled open; someone shuts the drawer", "isn't the drawer closed?", "yes"),
    ("the barrier goes up; the barrier comes down", "is the barrier down?", "yes"),
    ("the barrier goes up; the barrier comes down", "is the barrier up?", "no"),
    ("fan starts spinning; fan stops spinning", "is the fan spinning?", "no"),
    ("fan starts spinning; fan stops spinning", "is the fan off?", "yes"),
    ("someone turns the heater on; someone turns it off", "is the heater on?", "no"),
    ("someone turns the heater on; someone turns it off", "is the heater not on?", "yes"),
    ("tv is turned off; tv is turned on", "is the tv off?", "no"),
    ("tv is turned off; tv is turned on", "is the tv still on?", "yes"),
    ("the fire is lit; the fire goes out", "is the fire burning?", "no"),
    ("the fire is lit; the fire goes out", "is the fire out?", "yes"),
    ("the bucket is filled with water", "is the bucket empty?", "no"),
    ("the bucket is emptied into the sink", "is the bucket full?", "no"),
    ("the bucket is emptied into the sink", "is the bucket empty?", "yes"),
    ("the car is locked; a man unlocks the car", "is the car unlocked?", "yes"),
    ("the car is locked; a man unlocks the car", "is the car locked?", "no"),
    ("the bird flies away", "is the bird gone?", "yes"),
    ("the bird flies away; the bird comes back", "is the bird still there?", "yes"),
    ("parcel is brought in; parcel is taken away", "is the parcel still here?", "no"),
    ("parcel is brought in; parcel is taken away", "is the parcel gone?", "yes"),
    ("a visitor arrives; the visitor departs", "is the visitor still in the room?", "no"),
    ("a visitor arrives; nobody departs", "is the visitor gone?", "no"),
    ("the cable is attached; the cable is detached", "is the cable attached?", "no"),
    ("the trailer is hooked; the trailer is unhooked", "is the trailer unhooked?", "yes"),
    ("the dog is tied to the tree; the dog is untied", "is the dog tied?", "no"),
    ("the truck is loaded; the truck is unloaded", "is the truck loaded?", "no"),
    ("the truck is loaded; the truck is unloaded", "is the truck unloaded?", "yes"),
    ("the statue is veiled; the mayor unveils the statue", "is the statue veiled?", "no"),
    ("the alarm is armed; the alarm is disarmed", "is the alarm armed?", "no"),
    ("the screen is folded; the screen is unfolded", "is the screen folded?", "no"),
    ("the seat is occupied; the seat is vacated", "is the seat free?", "yes"),
    ("the vase breaks", "is the vase broken?", "yes"),
    ("the vase breaks; a man repairs the vase", "is the vase broken?", "no"),
    ("the floor is wet; the floor dries", "is the floor dry?", "yes"),
    ("the baby falls asleep; the baby wakes", "is the baby asleep?", "no"),
    ("a boy stands up; the boy sits down", "is the boy standing?", "no"),
    ("the pump doesn't start", "is the pump running?", "not known"),
    ("the pump starts; the pump does not stop", "is the pump stopped?", "no"),
    ("the oven is not on", "is the oven on?", "no"),
    ("the window isn't closed", "is the window open?", "yes"),
    ("the lid is no longer open", "is the lid open?", "no"),
    ("the bag lies on the bench", "is the bag blue?", "not known"),
    ("the soup boils", "is the soup cold?", "not known"),
    ("the hatch opens while the pump stops", "is the hatch open?", "yes"),
    ("the hatch opens while the pump stops", "is the pump running?", "no"),
    ("the hatch opens while the pump stops", "is the hatch closed?", "no"),
    ("a woman stands close to the cupboard; cupboard opens", "is the cupboard closed?", "no"),
    ("cupboard opens; a woman stands close to the cupboard", "is the cupboard open?", "yes"),
    ("the radio is on; the radio is off", "is the radio on or off?", "off"),
    ("the roof is open; the roof is closed", "is the roof closed or open?", "closed"),
    ("engine starts and stops again", "is the engine running?", "no"),
    ("nobody opens the safe", "is the safe open?", "not known"),
    ("the safe opens; no one closes the safe", "is the safe closed?", "no"),
    ("the sail is raised; the sail is lowered", "is the sail not raised?", "yes"),
    ("the kettle is switched on", "is the kettle switched off?", "no"),
    ("the printer is unplugged", "is the printer plugged in?", "no"),
)
"""Story, question, and the first word of the right answer."""
