"""The built-in prompts: three for each suite, written for this project, and a template for each."""

from __future__ import annotations

MANUAL: dict[str, tuple[str, ...]] = {
    "sd": (
        "My train is cancelled and the next one leaves in two hours. What would you do with the time?",
        "A friend is coming for dinner tonight and eats no meat. Suggest one dish and say why it fits.",
        "I keep forgetting to water my plants. Give me one habit that would help, in two sentences.",
    ),
    "ar": (
        "A tank holds 240 litres. One pump fills it in 6 hours, another empties it in 8 hours. Both run from an empty "
        "tank. Work out step by step after how many hours it is full.",
        "Anna is taller than Ben. Carl is shorter than Ben. Dora is taller than Anna. Order the four by height, and "
        "say which statement decides each place.",
        "A shop raises a price by 20 percent and later lowers it by 20 percent. Explain with an example whether the "
        "customer pays the same as before.",
    ),
    "ng": (
        "Write the opening of a story about a lighthouse keeper who receives a letter that was posted forty years ago.",
        "Tell how two rival bakers in a small town end up sharing one oven through a long winter.",
        "Describe the first day of a robot that was built to repair clocks and opens its eyes in a museum at night.",
    ),
}
"""Suite -> prompts: short dialogue, analytical reasoning, narrative generation."""

TEMPLATES: dict[str, tuple[str, dict[str, tuple[str, ...]]]] = {
    "sd": (
        "I have {time} and want to {wish}. What do you suggest?",
        {
            "time": ("ten minutes", "an hour", "a free evening"),
            "wish": ("learn something new", "cheer up a colleague", "tidy my desk"),
        },
    ),
    "ar": (
        "A {vehicle} covers {distance} km in {hours} hours. Work out its average speed step by step.",
        {"vehicle": ("bus", "cyclist", "ferry"), "distance": ("36", "90", "144"), "hours": ("2", "3", "4")},
    ),
    "ng": (
        "Write the first paragraph of a {kind} about {hero} in {place}.",
        {
            "kind": ("mystery", "fairy tale", "letter home"),
            "hero": ("a retired sailor", "a child who cannot sleep", "a lost dog"),
            "place": ("a desert station", "a city under snow", "an old cinema"),
        },
    ),
}
"""Suite -> text and the values of its variables; three combinations of each are drawn."""
