"""What may be typed: suggestions for what is mistyped, help, actions below a command, and the library's own defaults."""

import argparse
import inspect
import json
import re

import pytest

import headstart
from headstart.classifier import writers
from headstart.cli import arguments, main
from headstart.cli.commands import predict
from headstart.data.views import views_grid
from headstart.finetune.recipe import UNFREEZE
from headstart.report.plots.table import PLOTS
from headstart.trust.conformal import SCORES


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("trian photos", "there is no command 'trian'; did you mean train?"),
        ("help trian", "there is no command 'trian'; did you mean train?"),
        ("cache clean", "there is no command 'cache clean'; did you mean clear?"),
        ("backbones imprt x.tflite", "there is no command 'backbones imprt'; did you mean import?"),
        ("learn photos", "there is no command 'learn'; expected train, predict, explain, check"),
        ("train photos --bugdet 10m", "headstart train has no option --bugdet; did you mean --budget?"),
        ("train photos --bugdet=10m", "headstart train has no option --bugdet; did you mean --budget?"),
        ("plot run --knid curves", "headstart plot has no option --knid; did you mean --kind?"),  # and --kind is missing
        ("train photos --frobnicate", "headstart train has no option --frobnicate; `headstart train --help` lists them"),
        ("plot run --kind cofusion", "there is no --kind 'cofusion'; did you mean confusion?"),
        ("--verson", "headstart has no option --verson; did you mean --version?"),
        ("trian\nheadstart:\x1b[2J", "there is no command 'trian"),
    ],
)
def test_what_is_mistyped_is_answered_in_one_line(words, answer, capsys):
    with pytest.raises(SystemExit) as ended:
        main.main(words.split(" "))
    out, err = capsys.readouterr()
    assert ended.value.code == 2 and out == ""
    assert err.startswith(f"headstart: {answer}") and len(err.splitlines()) == 1 and "\x1b" not in err


@pytest.mark.parametrize(
    ("words", "same"),
    [
        ("help", "--help"),
        ("help train", "train --help"),
        ("help backbones import", "backbones import --help"),
    ],
)
def test_help_is_a_command(words, same, capsys):
    texts = []
    for typed in (words, same):
        with pytest.raises(SystemExit) as ended:
            main.main(typed.split())
        assert ended.value.code == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] and texts[0].startswith("usage: headstart")


def test_an_action_has_options_of_its_own(capsys):
    for command, is_here in (("backbones", False), ("backbones list", False), ("backbones import", True)):
        with pytest.raises(SystemExit):
            main.main(["help", *command.split()])
        assert ("--overwrite" in capsys.readouterr().out) == is_here


@pytest.mark.parametrize("words", [("--json", "show"), ("show", "--json"), ("--json",)])
def test_options_may_stand_before_an_action_or_after_it(words, tmp_path, capsys):
    assert main.main(["cache", "--cache", str(tmp_path), *words]) == 0
    assert json.loads(capsys.readouterr().out)["path"].startswith(str(tmp_path))


LIBRARY = {
    "train": headstart.train,
    "predict": headstart.Classifier.stream,
    "check": headstart.check_photos,
    "evaluate": headstart.evaluate_run,
    "views": views_grid,
}


@pytest.mark.parametrize("command", LIBRARY)
def test_help_says_the_defaults_that_the_library_has(command):
    text = {a.dest: a.help for a in actions_of(command)}
    for name, parameter in inspect.signature(LIBRARY[command]).parameters.items():
        if name in ("test", "seed", "backbone", "device", "precision", "top"):
            default = re.escape(str(parameter.default))
            assert re.search(rf"{default}.*default|default: {default}", text[name]), name


def test_every_parameter_of_train_is_an_option_and_every_option_a_parameter():
    names, options = set(inspect.signature(headstart.train).parameters), {a.dest for a in actions_of("train")}
    assert names - {"progress"} == options - {"help", "json", "quiet", "mlflow"}  # the last is done with the finished run


def test_choices_are_those_of_the_library():
    choices = {(command, a.dest): a.choices for command in ("train", "predict", "plot") for a in actions_of(command)}
    assert choices["plot", "kind"] == tuple(PLOTS)
    assert choices["predict", "sets"] == tuple(SCORES)
    assert choices["train", "unfreeze"] == tuple(UNFREEZE)
    assert predict.FORMATS == tuple(writers.FORMATS)


def actions_of(command):
    subparsers = next(a for a in main.build_parser()._actions if isinstance(a.choices, dict))
    return subparsers.choices[command]._actions


# ---- values


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("10m", 600), ("2h", 7200), ("45", 45), ("0", 0), ("1.5m", 90)])
def test_a_time_has_a_unit(text, seconds):
    assert arguments.seconds(text) == seconds


@pytest.mark.parametrize(
    ("read", "text"),
    [
        *((arguments.seconds, text) for text in ("soon", "inf", "-1s", "5d", "")),
        *((arguments.three_numbers, text) for text in ("1,2", "a", "", "1,2,3,4")),
        *((arguments.at_least_one, text) for text in ("0", "-1", "1.5", "one", "")),
    ],
)
def test_a_value_that_cannot_be_read_is_named(read, text):
    with pytest.raises(argparse.ArgumentTypeError, match=re.escape(repr(text))):
        read(text)


def test_one_number_stands_for_all_three_colours():
    assert arguments.three_numbers("0.5") == (0.5, 0.5, 0.5)
    assert arguments.three_numbers("0.485,0.456,0.406") == (0.485, 0.456, 0.406)


def test_only_options_that_were_typed_and_that_a_function_takes_are_passed_on():
    def function(photos, *, seed=0, threads=None, progress=None):
        pass

    options = main.build_parser().parse_args(["train", "photos", "--seed", "3", "--quiet", "--balance"])
    assert arguments.options_for(function, options) == {"seed": 3}


@pytest.mark.parametrize("command", main.COMMANDS, ids=lambda command: command.__name__.rpartition(".")[2])
def test_a_command_is_its_help_its_options_and_a_short_run(command):
    assert command.HELP[0].islower() and not command.HELP.endswith(".")
    for function in (value for name, value in vars(command).items() if name.startswith("run")):
        if inspect.isfunction(function):
            assert len(inspect.getsource(function).splitlines()) <= 45  # 40 of body
