"""Imported by the server that `small.context` forks from: what each process would do anew for its first base."""
import transformers.models.bert.modeling_bert  # noqa: F401
from sentence_transformers import SentenceTransformer  # noqa: F401
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer  # noqa: F401
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast  # noqa: F401
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

import ragcun.data.documents  # noqa: F401
from ragcun.retrieval.words import LETTERS_SEEN, stemmer_for

get_checkpoint_conversion_mapping("bert")
stemmer_for(["ice and snow "*LETTERS_SEEN])
