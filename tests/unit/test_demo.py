"""The demo: real flights as events, and five questions that the server can answer."""

import zipfile
from pathlib import Path

import pytest

from mainstem import demo

FLIGHTS = """\
year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,flight,tailnum,origin,dest,\
air_time,distance,hour,minute,time_hour
2013,1,1,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,2013-01-01T10:00:00Z
2013,1,1,NA,1630,NA,NA,1815,NA,EV,4308,N18120,EWR,RDU,NA,416,16,30,2013-01-01T21:00:00Z
2013,2,8,2243,2129,74,15,2251,84,EV,4333,NA,EWR,TUL,175,1215,21,29,2013-02-09T02:00:00Z
"""
AIRLINES = "carrier,name\nUA,United Air Lines Inc.\nEV,ExpressJet Airlines Inc.\n"
WEATHER = """\
origin,year,month,day,hour,temp,dewp,humid,wind_dir,wind_speed,wind_gust,precip,pressure,visib,time_hour
EWR,2013,1,1,5,39.02,28.04,64.43,260,12.65858,NA,0,1011.9,10,2013-01-01T10:00:00Z
EWR,2013,2,8,21,30.02,28.04,92.1,20,18.41248,NA,0.07,NA,0.25,2013-02-09T02:00:00Z
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three flights, in the files that the data set has."""
    (tmp_path / "airlines.csv").write_text(AIRLINES)
    (tmp_path / "weather.csv").write_text(WEATHER)
    with zipfile.ZipFile(tmp_path / "flights.csv.zip", "w") as archive:
        archive.writestr("flights.csv", FLIGHTS)
    return tmp_path


def test_a_flight_is_an_event_at_its_scheduled_departure(data: Path) -> None:
    """In UTC, with the minute, and with the weather of that hour."""
    first, cancelled, late = demo.read_flights(data)

    assert (first.timestamp, first.event_type) == ("2013-01-01T10:15:00Z", "departed")
    assert first.data.weather == demo.Weather(39.02, 12.66, 10, 0)
    assert (cancelled.event_type, cancelled.data.departure_delay_min) == ("cancelled", None)
    assert (late.data.plane, late.data.departure_delay_min) == (None, 74)


def test_the_server_answers_all_five_questions(data: Path, tmp_path: Path) -> None:
    """With a server of its own: what was loaded is counted, and every question gets lines for a person."""
    seen: list[int] = []
    with demo.running_server(tmp_path / "home" / "data") as server:
        loaded = demo.load(server, data, seen.append)
        answers = [demo.ask(server, question) for question in demo.QUESTIONS]

    assert (loaded.events, seen) == (3, [3])
    assert len(answers) == 5
    assert all(answer.lines for answer in answers)
    assert answers[0].lines[0].startswith("ExpressJet Airlines Inc.      84.0 minutes late")
    assert answers[4].lines == [
        "sees less than a mile   0.0% cancelled, the others 74 minutes late",
        "sees further            0.0% cancelled, the others 2 minutes late",
    ]
