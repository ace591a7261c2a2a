"""From a ZIP of one's own pictures to a report, without Python, in five clicks."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser_helpers import click_button, expect_title, finalize, open_link
from PIL import Image

pytestmark = [pytest.mark.browser, pytest.mark.slow]
FORMS = ("png", "jpg", "webp", "bmp")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """500 pictures of 5 classes in many forms and sizes, with what other programs leave."""
    folder = tmp_path_factory.mktemp("own") / "My pictures"
    for label, name in enumerate(("Äpfel", "猫", "dog & <b>cat<", "0", "bird")):
        (folder / name).mkdir(parents=True)
        for i in range(100):
            draws = np.random.default_rng([label, i])
            height, width = draws.integers(20, 60, 2)
            noise = draws.integers(0, 50, (height, width, 3)) + np.array([40 * label, 200 - 40 * label, 90])
            picture = Image.fromarray(noise.clip(0, 255).astype(np.uint8))
            if i % 7 == 0:
                picture = picture.convert("P" if i % 2 else "L")
            if i % 7 != 0 and i % 5 == 0:
                picture = picture.convert("CMYK")
                picture.save(folder / name / f"{i}.jpg")
            else:
                picture.convert("RGB").save(folder / name / f"{i}.{FORMS[i % 4]}")
        (folder / name / "._0.png").write_bytes(b"\x00\x05\x16\x07")
        (folder / name / "Thumbs.db").write_bytes(b"x")
    return Path(shutil.make_archive(str(folder), "zip", folder.parent, folder.name))


def test_from_a_zip_to_a_report(address: str, page: Any, archive: Path) -> None:
    open_link(page, f"{address}/own_pictures", "Your pictures")
    page.locator("input[type=file]").set_input_files(archive)  # 1: the file
    page.get_by_text("400 pictures for training, 100 for tests, 5 classes").wait_for()
    finalize(page)
    click_button(page, "Add as a dataset")  # 2
    expect_title(page, "Experiment")
    page.wait_for_url(re.compile("new_dataset=own_my_pictures"))
    page.get_by_role("button", name="Launch").wait_for()
    open_link(page, f"{page.url}&set=training.epochs%3D4", "Experiment")  # the same page, for a shorter test
    page.get_by_text("training.epochs=4").first.wait_for()
    finalize(page)

    click_button(page, "Launch")  # 3
    expect_title(page, "Jobs")
    page.get_by_text("done", exact=True).locator("visible=true").first.wait_for(timeout=300_000)
    finalize(page)
    page.get_by_test_id("stMain").get_by_role("link", name="Poisons").first.click()  # 4
    expect_title(page, "Poisons")
    finalize(page)
    with page.expect_download(timeout=60_000) as begun:
        click_button(page, "Report")  # 5

    report = Path(begun.value.path()).read_text(encoding="utf-8")
    assert "own_my_pictures" in report and "<b>cat" not in report
