"""IEMOCAP: English, 5 sessions of two actors, dyadic dialogues, 10 emotions, 10039 utterances.

Language:  en
Numbers:   10039 utterances, 10 speakers, 12 hours
Labels:    ang hap exc sad neu fru fea sur dis oth xxx
Protocols: si, official, emobox
Source:    https://sail.usc.edu/iemocap/ (16 kHz WAV), on request
Licence:   the publisher's release form, research only
Citation:  C. Busso, M. Bulut, C.-C. Lee, A. Kazemzadeh, E. Mower, S. Kim, J. Chang, S. Lee, S.
           Narayanan: IEMOCAP: Interactive Emotional Dyadic Motion Capture Database. Language
           Resources and Evaluation 42(4), 2008.

Layout: SessionN/sentences/wav/DIALOG/UTT.wav and SessionN/dialog/EmoEvaluation/DIALOG.txt
          UTT is DIALOG_GNNN, for example Ses01F_impro01_M003: G is who speaks

Labels are those of the evaluators' majority; xxx is none, oth a label outside of the list. The
evaluators' agreement (utt2agreement) is the share of them who named the label, some name two; the
actors' own evaluations do not count. Transcripts come from SessionN/dialog/transcriptions/.

Traps: the F or M in the dialogue's name is who wears the markers, not who speaks; published folds
that take it for the speaker are folds of sessions at best. Both actors of a session talk to each
other on both channels, so keep sessions together (protocol official). Nearly all studies of four
classes count exc as happiness: that is the default here, 5531 utterances. Scripted dialogues repeat
their text from session to session, so the words give the emotion away. Archives hold ._ files.
"""

import re
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path

from espnet_mtkd.data.corpus import Utterance, main
from espnet_mtkd.errors import UserError

# Also how the evaluators' words start: Anger, Disgust, Excited, Fear, Frustration, Happiness, ...
LABELS = {"ang", "dis", "exc", "fea", "fru", "hap", "neu", "oth", "sad", "sur"}
DIALOGS = {"all": "impro|script", "improvised": "impro", "scripted": "script"}
SUMMARY = r"\[\d+\.\d+ - \d+\.\d+\]\t(\w+)\t(\w{3})\t\[.*\]"
UTTERANCE = r"(Ses0(\d)[FM]_(impro|script)\w+)_([FM])\w*\d+"
TRANSCRIPT = r"(Ses0\w+) \[[\d.]+-[\d.]+\]:\s*(.*)"


def add_options(parser: ArgumentParser) -> None:
    """The script's own options."""
    parser.add_argument(
        "--excited",
        choices=("merge", "keep"),
        default="merge",
        help="merge: exc counts as hap; keep: it is a label of its own (default: %(default)s)",
    )
    parser.add_argument(
        "--dialogs", choices=tuple(DIALOGS), default="all", help="default: %(default)s"
    )
    parser.add_argument(
        "--min_agreement",
        type=float,
        default=0.0,
        help="leave out utterances of lower agreement, from 0 to 1 (default: %(default)s)",
    )


def utterances(
    root: Path, excited: str = "merge", dialogs: str = "all", min_agreement: float = 0.0
) -> Iterator[Utterance]:
    """Yield every recording that was evaluated."""
    if not 0 <= min_agreement <= 1:
        raise UserError(f"--min_agreement {min_agreement}: expected a number from 0 to 1")
    for path in sorted(root.glob("Session[1-5]/dialog/EmoEvaluation/*.txt")):
        if path.name.startswith(".") or not re.match(
            rf"Ses0\d[FM]_({DIALOGS[dialogs]})", path.stem
        ):
            continue
        session = path.parents[2]
        texts = transcripts(session / "dialog" / "transcriptions" / path.name)
        for utt, label, agreement in evaluations(path):
            match = re.fullmatch(UTTERANCE, utt)
            if not match or match[1] != path.stem or session.name != f"Session{match[2]}":
                raise UserError(f"{path}: {utt!r} is not an utterance of this dialogue")
            # Without a majority there is no label to agree on.
            if min_agreement and (agreement is None or agreement < min_agreement):
                continue
            speaker = f"iemocap_Ses0{match[2]}{match[4]}"
            yield Utterance(
                utt_id=f"{speaker}_{utt}",
                speaker=speaker,
                wav=audio(session / "sentences" / "wav" / path.stem / utt),
                emotion="hap" if label == "exc" and excited == "merge" else label,
                language="en",
                gender=match[4].lower(),
                text=texts.get(utt),
                agreement=agreement,
            )


def audio(path: Path) -> Path:
    """The file of an utterance, WAV unless there is a FLAC."""
    flac = path.with_name(f"{path.name}.flac")
    return flac if flac.is_file() else path.with_name(f"{path.name}.wav")


def evaluations(path: Path) -> Iterator[tuple[str, str, float | None]]:
    """Utterance, label and agreement (None without a majority) from a file of EmoEvaluation."""
    utt = label = ""
    votes: list[set[str]] = []
    # latin-1 never fails; evaluators' comments are not all ASCII.
    lines = path.read_text(encoding="latin-1").splitlines()
    for number, line in enumerate([*lines, "["], start=1):
        if line.startswith("["):
            if utt:
                agreed = sum(label in vote for vote in votes)
                yield utt, label, None if label == "xxx" or not votes else agreed / len(votes)
            if number > len(lines):
                return
            match = re.fullmatch(SUMMARY, line.rstrip())
            if not match or match[2] not in LABELS | {"xxx"}:
                raise UserError(f"{path}:{number}: expected '[START - END] UTT LABEL [V, A, D]'")
            utt, label, votes = match[1], match[2], []
        elif match := re.match(r"C-E\d+:\s*([^()]*)", line):
            votes.append({word.strip().lower()[:3] for word in match[1].split(";")} & LABELS)


def transcripts(path: Path) -> dict[str, str]:
    """Transcript by utterance; {} if the corpus comes without transcriptions."""
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="latin-1").splitlines()
    matches = (re.fullmatch(TRANSCRIPT, line.strip()) for line in lines)
    return {match[1]: match[2].strip() for match in matches if match and match[2].strip()}


if __name__ == "__main__":
    main(__doc__, utterances, add_options)
