"""Data sets of micro-expressions as their owners give them away: tables, folders and frames, with noise for faces."""

import csv
import io
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import cv2
import numpy as np

CASME2_HEADER = (
    "Subject", "Filename", "", "OnsetFrame", "ApexFrame", "OffsetFrame", "", "Action Units", "Estimated Emotion"
)  # fmt: skip
SAMM_HEADER = (
    "Subject", "Filename", "Inducement Code", "Onset Frame", "Apex Frame", "Offset Frame", "Duration", "Micro",
    "Action Units", "Estimated Emotion", "Objective Classes", "Notes",
)  # fmt: skip
# Thirteen rows above SAMM's header.
SAMM_TEXT = [["SAMM: A Spontaneous Micro-Facial Movement Dataset"], *[[f"remark {i}"] for i in range(11)], []]
# The official numbers of clips by emotion, and which subjects show none of those that are counted.
CASME2 = {
    "others": 99, "disgust": 63, "happiness": 32, "repression": 27, "surprise": 25, "sadness": 7, "fear": 2
}  # fmt: skip
SAMM = {
    "Anger": 57, "Happiness": 26, "Other": 26, "Surprise": 15, "Contempt": 12, "Disgust": 9, "Fear": 8, "Sadness": 6
}  # fmt: skip
SMIC = {"negative": 70, "positive": 51, "surprise": 43}
# Without classes among the three: CASME II's 10 and 18, and one of SAMM's 29.
CASME2_SUBJECTS = tuple(number for number in range(1, 27) if number not in (10, 18))
SAMM_SUBJECTS = tuple(number for number in range(6, 38) if number not in (8, 25, 27, 29))
SMIC_SUBJECTS = (1, 2, 3, 4, 5, 6, 8, 9, 11, 12, 13, 14, 15, 18, 19, 20)


def write_xlsx(file: Path, sheets: dict[str, Sequence[Sequence[object]]]) -> None:
    """A spreadsheet with texts and numbers, as small as Excel still reads it."""
    main = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    relations = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    names = "".join(f'<sheet name="{escape(name)}" sheetId="{i}" r:id="rId{i}"/>' for i, name in enumerate(sheets, 1))
    links = "".join(
        f'<Relationship Id="rId{i}" Type="{relations}/worksheet" Target="worksheets/sheet{i}.xml"/>'
        for i, _ in enumerate(sheets, 1)
    )
    files = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types"><Default Extension="xml" '
        'ContentType="application/xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="rId1" '
        f'Type="{relations}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook {main} xmlns:r="{relations}"><sheets>{names}</sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships">{links}</Relationships>',
    }
    for number, rows in enumerate(sheets.values(), 1):
        lines = "".join(f'<row r="{r}">{_cells(r, row)}</row>' for r, row in enumerate(rows, 1))
        files[f"xl/worksheets/sheet{number}.xml"] = f"<worksheet {main}><sheetData>{lines}</sheetData></worksheet>"
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, f'<?xml version="1.0" encoding="UTF-8"?>{content}')


def _cells(row: int, cells: Sequence[object]) -> str:
    found = []
    for column, cell in enumerate(cells):
        place = f"{chr(ord('A') + column)}{row}"
        if isinstance(cell, int | float):
            found.append(f'<c r="{place}"><v>{cell}</v></c>')
        elif cell != "":
            found.append(f'<c r="{place}" t="inlineStr"><is><t>{escape(str(cell))}</t></is></c>')
    return "".join(found)


def write_csv(file: Path, rows: Iterable[Sequence[object]], delimiter: str = ",") -> None:
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=delimiter).writerows(rows)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(buffer.getvalue(), encoding="utf-8-sig")


def write_frames(folder: Path, numbers: Iterable[int], name: str = "reg_img{}.jpg", size=(12, 16)) -> None:
    """Frames whose grey level is their number."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        suffix = Path(name).suffix
        picture = np.full((*size, 3), number % 256, np.uint8)
        (folder / name.format(number)).write_bytes(cv2.imencode(suffix, picture)[1].tobytes())


def spread(counts: dict[str, int], subjects: Sequence[int]) -> list[tuple[int, str]]:
    """(subject, emotion) of as many clips of each emotion, so that every subject has some."""
    emotions = [emotion for emotion, count in counts.items() for _ in range(count)]
    return [(subjects[place % len(subjects)], emotion) for place, emotion in enumerate(emotions)]


def casme2_rows(counts: dict[str, int] = CASME2) -> list[list[object]]:
    """Rows of the table. The two that MEGC2019 leaves out are among them, the first without an apex."""
    special = [(4, "EP12_01f", "disgust"), (24, "EP02_07", "repression")]
    counts = dict(counts)
    for _, _, emotion in special:
        counts[emotion] = counts.get(emotion, 1) - 1
    others = {emotion: counts.pop(emotion) for emotion in ("others", "sadness", "fear") if emotion in counts}
    clips = [*spread(counts, CASME2_SUBJECTS), *spread(others, (10, 18, *CASME2_SUBJECTS))]
    listed = [(subject, f"EP{place:02d}_{place}f", emotion) for place, (subject, emotion) in enumerate(clips, 3)]
    rows = [[subject, clip, "", 98, 100, 102, "", "4+L10", emotion] for subject, clip, emotion in [*listed, *special]]
    rows[-2][4] = "/"
    return rows


def write_casme2(folder: Path, rows: Sequence[Sequence[object]] | None = None, table: str = "xlsx") -> Path:
    """CASME II's folder: subjects as numbers, frames from 98 to 102, whose names as texts are in another order."""
    rows = casme2_rows() if rows is None else rows
    file = folder / f"CASME2-coding-20140508.{table}"
    if table == "csv":
        write_csv(file, [CASME2_HEADER, *rows])
    else:
        write_xlsx(file, {"Sheet1": [CASME2_HEADER, *rows], "Sheet2": [["nothing"]]})
    for subject, clip, *_ in rows:
        write_frames(folder / "Cropped" / f"sub{int(subject):02d}" / str(clip), range(98, 103))
    return folder


def samm_rows(counts: dict[str, int] = SAMM) -> list[list[object]]:
    """Rows of the table, the subject with other emotions alone being the 29th."""
    counts = dict(counts)
    other = counts.pop("Other", 0)
    clips = [*spread(counts, SAMM_SUBJECTS), *spread({"Other": other}, (25, *SAMM_SUBJECTS))]
    return [
        [f"{subject:03d}", f"{subject:03d}_1_{place}", 1, 5562, 5564, 5566, 5, "Micro - 1/2", "4", emotion, 2, ""]
        for place, (subject, emotion) in enumerate(clips, 2)
    ]


def write_samm(folder: Path, rows: Sequence[Sequence[object]] | None = None) -> Path:
    rows = samm_rows() if rows is None else rows
    write_xlsx(folder / "SAMM_Micro_FACS_Codes_v2.xlsx", {"MICRO ONLY": [*SAMM_TEXT, SAMM_HEADER, *rows]})
    for subject, clip, *_ in rows:
        write_frames(folder / subject / clip, range(5562, 5567), f"{subject}_" + "{:05d}.jpg")
    return folder


def write_smic_hs(folder: Path, counts: dict[str, int] = SMIC) -> Path:
    short = {"negative": "ne", "positive": "po", "surprise": "sur"}
    for place, (subject, emotion) in enumerate(spread(counts, SMIC_SUBJECTS)):
        clip = folder / "HS" / f"s{subject}" / "micro" / emotion / f"s{subject}_{short[emotion]}_{place:02d}"
        write_frames(clip, range(835057, 835062), "reg_image{}.bmp")
    (folder / "HS/s1/non_micro/s1_n1").mkdir(parents=True)
    return folder
