"""Write what a baseline proposes for the images of a dataset as COCO results, for ``zeroshot predictions=FILE``.

    python -m tools.predict_baseline grid grid.json dataset=ocid root=OCID
    entitytransfer zeroshot dataset=ocid root=OCID predictions=grid.json name=grid

This is how the rows of baselines in MODEL_ZOO.md were made.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from entitytransfer.commands.parsing import setting
from entitytransfer.datasets import bind_function
from entitytransfer.predictions import write_json
from tools.baselines import BASELINES


def main(arguments: Sequence[str] | None = None) -> None:
    """Predict and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("baseline", choices=BASELINES)
    parser.add_argument("out", type=Path, help="COCO results file to write")
    parser.add_argument("settings", nargs="+", type=setting, metavar="key=value", help="dataset=NAME root=DIR, ...")
    options = parser.parse_args(arguments)
    propose = BASELINES[options.baseline]
    samples = bind_function(dict(options.settings), "read")()
    write_json(
        options.out,
        [record for sample in samples for record in propose(sample.read_frame()).to_coco(sample.image_id)],
    )


if __name__ == "__main__":
    main()
