import numpy as np

from espnet_mtkd.evaluate import reliability
from espnet_mtkd.evaluate.pooled import Pooled


def test_section_has_a_diagram_per_language_and_says_the_error():
    sure = np.log(np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8]]))
    model = Pooled(
        utt_ids=np.array(["a", "b", "c"]),
        languages=np.array(["en", "en", "fi"]),
        folds=np.array(["1"] * 3),
        ref=np.array([0, 1, 1]),
        log_probabilities=sure[None],
    )
    html = "".join(reliability.section({"mtkd": model}))
    assert html.count("<figure>") == 2
    # en: twice 90 % sure, once right; fi: 80 % sure and right.
    assert "calibration error: mtkd 40.0" in html
    assert "calibration error: mtkd 20.0" in html
