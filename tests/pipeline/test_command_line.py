"""Where a command works: the images of each role, and what does not go together."""

import re
from pathlib import Path

import pytest

from pipeline.engine.command_line import EMBEDDED, Where
from stages.errors import PipelineError
from tests.conftest import command

ROLES = {"imagenet", "voc", "flickr8k"}


def sources(*data: str) -> dict[str, str]:
    where = Where(data=data)
    where.check(ROLES)
    return {role: where.source(role) for role in sorted(ROLES)}


def test_embedded_images_serve_every_role_by_default() -> None:
    assert set(sources().values()) == {EMBEDDED}


def test_images_without_a_role_serve_every_role_that_is_not_named() -> None:
    assert sources("/a") == {"flickr8k": "/a", "imagenet": "/a", "voc": "/a"}
    assert sources("voc=/b", "/a") == {"flickr8k": "/a", "imagenet": "/a", "voc": "/b"}
    assert sources("voc=/b") == {"flickr8k": EMBEDDED, "imagenet": EMBEDDED, "voc": "/b"}
    assert sources("/a", "voc=embedded")["voc"] == EMBEDDED


@pytest.mark.parametrize(
    "source",
    [
        "s3://bucket/data?endpoint_override=127.0.0.1&scheme=http",
        "/nowhere/rate=0.1/images",
        "./voc=2007",
    ],
)
def test_an_equals_sign_further_on_names_no_role(source: str) -> None:
    assert set(sources(source).values()) == {source}
    assert sources(f"voc={source}")["voc"] == source


def test_a_path_that_exists_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "voc=2007").mkdir()
    assert set(sources("voc=2007").values()) == {"voc=2007"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            ["coco=/a"],
            "no recipe uses data called 'coco' .from --data coco=.*\n.*use one of: flickr8k, imagenet, voc",
        ),
        (["voc="], "the role 'voc' but no images for it\n.*write --data voc=PATH"),
        (["=/a"], "no role before the equals sign\n.*write --data PATH or --data ROLE=PATH"),
        (["/a", "/b"], "two sets of images without a role\n.*keep one"),
        (["voc=/a", "voc=/b"], "two sets of images for the role 'voc'\n.*keep one"),
    ],
)
def test_what_names_no_images_is_refused(data: list[str], message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        sources(*data)


def test_no_message_quotes_a_url() -> None:
    """It may carry credentials."""
    secret = "s3://user:secret@bucket/x"
    for data in ([secret, secret], [f"voc={secret}"] * 2, [f"coco={secret}"]):
        with pytest.raises(PipelineError) as raised:
            sources(*data)
        assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "arguments",
    [
        ["pipeline.run", "--year", 2012],
        ["pipeline.ablate", "--paper", "alexnet"],
        ["pipeline.evaluate", "--model", "torchvision:resnet18", "--paper", "resnet"],
    ],
)
@pytest.mark.parametrize(
    ("where", "message"),
    [
        (["--launcher", "inline", "--workers", 4], "leave --workers out"),
        (["--workers", 0], "--workers must be at least 1, not 0"),
        (["--data", "voc=/nowhere"], "no recipe uses data called"),
    ],
)
def test_every_command_that_computes_refuses_it(
    arguments: list[object], where: list[object], message: str, tmp_path: Path
) -> None:
    data = [] if "--data" in where else ["--data", "embedded"]
    done = command(*arguments, *where, *data, "--workspace", tmp_path / "ws")
    assert done.returncode == 2, done.stdout + done.stderr
    assert re.search(message, done.stderr), done.stderr
    assert not (tmp_path / "ws").exists()


def test_evaluate_asks_for_images(tmp_path: Path) -> None:
    done = command("pipeline.evaluate", "--model", "torchvision:resnet18", "--paper", "resnet")
    assert done.returncode == 2
    assert "add --data FOLDER" in done.stderr
