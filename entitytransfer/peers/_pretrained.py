"""Models of the ``transformers`` library, from a folder or from its hub."""

from typing import Any, TypeVar

from transformers import PreTrainedModel
from transformers.utils import logging

from cropformer import InputError

Model = TypeVar("Model", bound=PreTrainedModel)


def load_model(model_class: type[Model], weights: str) -> Model:
    """A model, ready for inference.

    Args:
        model_class: which one.
        weights: folder that ``save_pretrained`` wrote, or name on the hub.

    Raises:
        InputError: there is nothing, or it is another model.
    """
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # its report of what does not fit has a page; the error below has a sentence
    model, report = from_pretrained(model_class, weights, output_loading_info=True)
    missing = set(report["missing_keys"]) & dict(model.named_parameters()).keys()
    if missing:
        raise InputError(
            f"{weights} holds no {model_class.__name__}: it lacks {min(missing)} and {len(missing) - 1} other weights; "
            "give a folder or a name on the hub that does."
        )
    return model.eval()


def from_pretrained(found_class: type, weights: str, **options: bool) -> Any:
    """What a class of the library reads at an address. Raises InputError if it cannot."""
    try:
        return found_class.from_pretrained(weights, **options)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"Cannot load {found_class.__name__} from weights={weights} ({reason}).") from error
