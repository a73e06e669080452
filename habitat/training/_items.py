"""Items of reporting guides."""

from __future__ import annotations

from typing import Any, NamedTuple

FILLED, HUMAN = "filled", "human"


class Item(NamedTuple):
    """One item of a guide."""

    guide: str
    item: str
    text: str
    answer: Any
    status: str = FILLED


# What only authors can answer; the words are ours.
# CLEAR: Kocak et al. 2023, doi 10.1186/s13244-023-01415-8
# METRICS: Kocak et al. 2024, doi 10.1186/s13244-023-01572-w
# TRIPOD+AI: Collins et al. 2024, doi 10.1136/bmj-2023-078378
# IBSI: Zwanenburg et al., reference manual, arXiv:1612.07003
OF_AUTHORS = {
    "CLEAR": {
        "1": "title that names the method",
        "2": "structured summary",
        "3": "keywords",
        "4": "clinical background",
        "5": "why radiomics",
        "6": "aim",
        "7": "guides that were followed",
        "8": "ethics, consent, data protection",
        "9": "how the number of patients was decided",
        "10": "prospective or retrospective, registration",
        "11": "who was eligible",
        "12": "flow chart of the method",
        "13": "where the data come from",
        "14": "overlap with earlier publications",
        "16": "imaging protocol",
        "17": "definitions of clinical predictors",
        "18": "definition of the outcome",
        "19": "how tumors were segmented",
        "20": "who segmented them",
        "36": "confounders",
        "49": "main findings",
        "50": "earlier work",
        "51": "use in practice",
        "52": "strengths and limits",
        "53": "sharing of images and masks",
        "54": "sharing of features",
        "58": "a system ready to use",
    },
    "METRICS": {
        "1": "guides that were followed",
        "2": "eligibility that represents the population",
        "3": "reference standard",
        "5": "imaging as in clinical practice",
        "6": "imaging protocol",
        "8": "how tumors were segmented",
        "9": "evaluation of automated segmentation",
        "10": "segmentation of the test set by one reader or tool",
        "28": "sharing of data",
    },
    "TRIPOD+AI": {
        "1": "title",
        "2": "abstract",
        "3": "background, inequalities",
        "4": "aims",
        "5": "sources and dates of the data",
        "6": "setting, eligibility, treatment",
        "8": "definition of the outcome, blinding",
        "14": "fairness",
        "17": "ethics",
        "18": "funding, interests, protocol, registration, sharing",
        "19": "involvement of patients",
        "24": "updating of the model",
        "25": "interpretation",
        "26": "limits",
        "27": "use in practice",
    },
    "IBSI": {
        "1-2": "region imaged, preparation of patients",
        "3b-5": "administration, activity, uptake time, contrast agent, comorbidities",
        "6-37": "acquisition, reconstruction, registration",
        "39-40": "maps computed from images",
        "42-45": "noise suppression, smoothing, correction of images",
        "47": "other processing of images",
        "48": "how tumors were segmented",
        "76": "where images may be found",
    },
}
