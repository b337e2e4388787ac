// NiceGUI's element: everything it shows is in the modules beside it.
import { Board } from "mt5-board";

export default Board;
