"""Who was studied: counts by split, hidden where they are small, and the flow from files to images."""

import pandas as pd

from xraylab.evaluate.subgroups import count_groups
from xraylab.evaluate.tables import demographics
from xraylab.report import participants
from xraylab.report.artefacts import rows
from xraylab.report.records import Demographics, record

IMAGES = 60
INDEX = pd.DataFrame(
    {
        "id": [f"{number}.png" for number in range(IMAGES)],
        "label": ["A", "B"] * 30,
        "patient": [f"p{number // 2}" for number in range(40)] + [""] * 20,
        "sex": ["F"] * 20 + ["M"] * 20 + ["F"] * 12 + ["M"] * 5 + [""] * 3,
        "age": [str(20 + number) for number in range(40)] + [""] * 20,
        "view": "PA",
    }
)
SPLIT = pd.Series(["train"] * 40 + ["test"] * 20)


def table() -> pd.DataFrame:
    return demographics(count_groups(INDEX, SPLIT, [18, 40, 65], 5))


def demographics_of(table: pd.DataFrame) -> list[Demographics]:
    return [record(Demographics, row) for row in rows(table)]


def test_images_patients_and_ages_are_counted_in_each_split() -> None:
    whole = table().query("grouping == 'all'").set_index("split")
    assert whole["images"].to_dict() == {"train": 40, "test": 20}
    assert whole["patients"].fillna(-1).to_dict() == {"train": 20, "test": -1}
    assert whole.loc["train", ["age_q1", "age_median", "age_q3"]].tolist() == [29.75, 39.5, 49.25]
    classes = table().query("grouping == 'class' and split == 'train'").set_index("group")
    assert classes.loc["A", ["images", "patients"]].tolist() == [20, 20]


def test_small_groups_are_hidden_in_their_split_with_what_would_tell_them() -> None:
    sexes = table().query("grouping == 'sex'").set_index(["split", "group"])["images"]
    assert sexes["train"].to_dict() == {"F": 20, "M": 20}
    assert sexes["test"].isna().to_dict() == {"F": False, "M": True, "unknown": True}
    assert "view" not in set(table()["grouping"])  # all have the same


def test_the_page_shows_shares_and_says_what_it_hides() -> None:
    cells = {(heading, group): texts for heading, group, texts in participants.table(demographics_of(table()))}
    assert cells["sex", "F"] == {"train": "20 (50.0 %)", "test": "12 (60.0 %)"}
    assert cells["sex", "unknown"] == {"train": "0", "test": participants.NOT_SHOWN}
    assert cells["age", "median (quartiles)"] == {"train": "40 (30 to 49)", "test": "unknown"}
    assert (
        participants.facts(demographics_of(table()), [])["people"]
        == "age and sex of the images of each split, under “Data”"
    )
    nothing = demographics(count_groups(INDEX.drop(columns=["sex", "age", "view"]), SPLIT, [18], 5))
    assert participants.facts(demographics_of(nothing), [])["people"] is None


def test_the_flow_adds_up_from_the_files_to_the_splits() -> None:
    audit = {
        "images": 70,
        "findings": [
            {"kind": "unreadable", "count": 2, "says": "files cannot be read and were left out"},
            {"kind": "left_out", "count": 8, "says": "images left out: of another class"},
            {"kind": "tiny", "count": 3, "says": "images are small"},
        ],
    }
    flow = participants.flow(audit, ["4 training images (near-duplicate)"], demographics_of(table()))
    assert (flow["found"], flow["readable"], flow["analysed"]) == (80, 70, 60)
    assert flow["excluded"] == ["2 files cannot be read and were left out", "8 images left out: of another class"]
    assert flow["unused"] == ["10 images in no split", "4 training images (near-duplicate)"]
    assert flow["splits"]["Training"] == [
        "40 images of 20 patients", "A: 20 images of 20 patients", "B: 20 images of 20 patients",
    ]  # fmt: skip
    assert flow["splits"]["Test"] == ["20 images", "A: 10 images", "B: 10 images"]
