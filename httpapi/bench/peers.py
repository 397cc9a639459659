"""The peers of the serving benchmark: the same question to a scikit-learn forest behind BentoML and behind FastAPI.

    peers.py fit TRAIN_FD001.txt FOREST.pkl     trains the forest
    TURBOFAN_FOREST=FOREST.pkl uvicorn peers:app | bentoml serve peers:RUL

Both answer {"reading": {unit_id, cycle, settings, sensors}} with the remaining life, as simply as their documentation has
it: no interval, no probability, no state of the unit, no log of predictions.
"""

import os
import pickle
import sys

import numpy as np
from pydantic import BaseModel


class Reading(BaseModel):
    unit_id: str
    cycle: int
    settings: list[float]
    sensors: list[float]


class Answer(BaseModel):
    unit_id: str
    cycle: int
    rul_prediction: float


def load():
    with open(os.environ["TURBOFAN_FOREST"], "rb") as f:
        return pickle.load(f)


def answer(forest, reading: Reading) -> Answer:
    row = np.array([[reading.cycle, *reading.settings, *reading.sensors]])
    return Answer(unit_id=reading.unit_id, cycle=reading.cycle, rul_prediction=float(forest.predict(row)[0]))


def fit(train, out):
    from sklearn.ensemble import RandomForestRegressor

    data = np.loadtxt(train)
    last = {unit: data[data[:, 0] == unit, 1].max() for unit in np.unique(data[:, 0])}
    rul = np.minimum(np.array([last[unit] for unit in data[:, 0]]) - data[:, 1], 125)
    forest = RandomForestRegressor(n_estimators=100, min_samples_leaf=5, random_state=42, n_jobs=1).fit(data[:, 1:], rul)
    with open(out, "wb") as f:
        pickle.dump(forest, f)


if __name__ == "__main__":
    fit(sys.argv[2], sys.argv[3])
elif os.environ.get("TURBOFAN_PEER") == "fastapi":
    from fastapi import Body, FastAPI

    app = FastAPI()
    forest = load()

    @app.post("/predict")
    def predict(reading: Reading = Body(embed=True)) -> Answer:
        return answer(forest, reading)
else:
    import bentoml

    @bentoml.service
    class RUL:
        def __init__(self):
            self.forest = load()

        @bentoml.api
        def predict(self, reading: Reading) -> Answer:
            return answer(self.forest, reading)
