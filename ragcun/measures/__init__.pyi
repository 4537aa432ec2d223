from .paired import Difference, paired_test, paired_tests
from .ranking import KS, PerQuery, Ranking, check_collection, counted_ndcg, evaluate_vectors, rank_vectors, ranking_metrics, retrieval_metrics, top_k
from .isotropy import effective_rank, eigenvalues, isoscore, mean_cosine, mean_length, participation_ratio

__all__ = [
    "Difference", "KS", "PerQuery", "Ranking", "check_collection", "counted_ndcg", "effective_rank", "eigenvalues",
    "evaluate_vectors", "isoscore", "mean_cosine", "mean_length", "paired_test", "paired_tests",
    "participation_ratio", "rank_vectors", "ranking_metrics", "retrieval_metrics", "top_k",
]
