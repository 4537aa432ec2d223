"""Imported by the server that `small.context` forks from: what every process would do again for the first base it opens."""
import ragcun.data.documents  # noqa: F401
import transformers.models.bert.modeling_bert  # noqa: F401
from sentence_transformers import SentenceTransformer  # noqa: F401
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer  # noqa: F401
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast  # noqa: F401
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

get_checkpoint_conversion_mapping("bert")
